//! From documents to training rows.
