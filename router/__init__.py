"""The router: classifies each job, decides by policy which model runs it, publishes it to that queue."""
