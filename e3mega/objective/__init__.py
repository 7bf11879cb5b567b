"""Objective: what a loss is made of; options and numpy."""
