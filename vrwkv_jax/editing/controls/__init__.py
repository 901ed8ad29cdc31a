"""What an edit keeps of its source, one file for each control; `registry` names them."""
