"""What is looked at: each module that assigns ``CHECK`` is one check."""
