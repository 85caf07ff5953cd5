"""The forms of requests and answers: what is sent, and what is made of what comes back."""
