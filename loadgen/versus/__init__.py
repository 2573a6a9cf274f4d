"""The same conversations through several endpoints, and what differs beyond chance."""
