"""What tests share: peers, a world of real servers, ways to look at both."""
