"""What a person sees of a run: the live panel, its status, the table at its end."""
