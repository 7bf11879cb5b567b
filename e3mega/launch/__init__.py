"""Launch: nemo-run experiments from a plan and a site's profile."""
