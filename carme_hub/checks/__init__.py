"""What a site check looks at, one file for each part of a site; `carme_hub.site_check` runs them."""
