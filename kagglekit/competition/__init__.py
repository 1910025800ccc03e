"""What a competition's files say: read as text, guessed at, checked; and the submission that goes back."""
