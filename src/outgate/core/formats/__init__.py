"""What crosses a wire: messages of the channel, headers of relayed datagrams, questions to name servers."""
