"""The roof: settings, urls, the embedded stack. Nothing imports it but the processes themselves."""
