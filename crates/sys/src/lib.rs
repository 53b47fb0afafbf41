//! Directory-descriptor file operations, atomic publish, locks and sync for Linux.
