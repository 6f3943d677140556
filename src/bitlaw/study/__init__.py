"""The study: what is asked, expanded to artifacts, each with the key that proves it."""
