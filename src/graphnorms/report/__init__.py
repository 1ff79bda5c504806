"""Tables, figures and the HTML page of a comparison: reads records and verdicts, trains nothing."""
