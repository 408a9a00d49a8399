"""Second implementations, slow and plain, that the real ones are held against."""
