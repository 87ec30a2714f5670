"""The urgent connection: what the compiled threads at its two ends share."""
