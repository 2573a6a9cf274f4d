"""OpenTelemetry: ports that note when things happened, and a thread that tells a collector."""
