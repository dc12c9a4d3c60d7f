"""Human evaluation: pairs of videos shown blind, votes kept safe, results with intervals, votes as preference data."""
