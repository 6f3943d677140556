"""The sections of a data card; a module that assigns ``SECTION`` is one."""
