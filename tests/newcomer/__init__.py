"""What somebody who has never seen this project types, and how long it takes."""
