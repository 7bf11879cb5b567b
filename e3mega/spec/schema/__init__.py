"""Schema: one frozen model per spec section."""
