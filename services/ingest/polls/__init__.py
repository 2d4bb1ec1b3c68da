"""What webhooks lost, asked for: at each vendor that can be asked, bounded, and from where the last asking ended."""
