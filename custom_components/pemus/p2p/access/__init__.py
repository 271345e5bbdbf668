"""Who may have what: the one place that decides."""
