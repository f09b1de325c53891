"""What the tests share: scenes, oracles, tolerances, stand-ins and the commands in processes of their own."""
