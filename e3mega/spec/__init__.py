"""Spec: compose, type and check run specs; every value knows its origin."""
