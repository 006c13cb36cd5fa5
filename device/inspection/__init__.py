"""One frame to one verdict, without a thread and without waiting."""
