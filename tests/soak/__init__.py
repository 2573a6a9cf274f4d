"""Minutes of steady load on emulated replicas that die, hang and come back."""
