"""Data that needs no download: each module makes or reads one kind of sequence."""
