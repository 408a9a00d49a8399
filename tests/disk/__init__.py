"""The disk that fails: full, torn, slow to tell, flipped; and the store on it."""
