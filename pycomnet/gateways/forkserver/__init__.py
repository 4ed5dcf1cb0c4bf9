"""The near end of fork servers, which fork the gateways of their machine."""
