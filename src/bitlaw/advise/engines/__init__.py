"""What serves models: each module that assigns ``ENGINE`` is one, with the formats that it loads."""
