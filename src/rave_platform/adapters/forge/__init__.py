"""The forges: Pagure and GitLab."""
