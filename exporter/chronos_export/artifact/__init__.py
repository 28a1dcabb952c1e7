"""What an artifact is: its manifest, verified reading, atomic publishing, its card."""
