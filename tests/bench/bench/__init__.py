"""The benchmark of Falcon: servers, load, lines, and the report that is made of them. Standard library only."""
