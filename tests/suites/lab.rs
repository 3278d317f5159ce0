//! Failovers of a real PostgreSQL 13 in the lab: outcomes, never times.
