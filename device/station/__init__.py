"""What only a running service has: capture, inference, exchange of models, actions."""
