"""Training: vector-Jacobian products, the tape that strings them together, losses, an optimizer, fine-tuning."""
