"""Networks made fast: rewritten for inference, and exported to the engines that run them."""
