"""Methods side by side: executed, tuned alike, summed up over seeds, forecast, drawn, beside what
was published.
"""
