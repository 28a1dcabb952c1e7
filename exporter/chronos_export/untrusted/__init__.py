"""What others wrote: JSON into records, files opened once and looked at in memory of our own."""
