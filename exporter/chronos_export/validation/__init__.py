"""The proof: cases on every runtime, held against upstream with Polygraphy."""
