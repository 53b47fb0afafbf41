//! One layer stream to files below a directory descriptor.
