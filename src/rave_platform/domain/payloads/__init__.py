"""What each sender's payload says, in the words of `EventFacts`."""
