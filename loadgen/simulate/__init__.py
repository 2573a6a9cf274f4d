"""Router core and engine model together in virtual time, over a whole trace set."""
