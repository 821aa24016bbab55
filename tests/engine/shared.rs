//! What a shared subscription promises, as stories.
