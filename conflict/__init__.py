"""What concurrency broke, and how the books are put right: pure, like the packages below it."""
