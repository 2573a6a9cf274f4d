"""Envoy's external processing, spoken as an endpoint picker of the Gateway API speaks it."""
