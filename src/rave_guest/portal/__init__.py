"""The portal: the page that people open first, and who has signed in to it."""
