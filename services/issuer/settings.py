"""The issuer's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import LaneSettings


class IssuerSettings(LaneSettings):
    """Settings of the issuer. Campaigns are no settings: see `stubline campaigns apply`."""

    model_config = SettingsConfigDict(env_prefix="STUBLINE_ISSUER_", frozen=True)

    tick_orders_max: int = Field(
        500,
        ge=1,
        le=5_000,
        description=(
            "Waiting orders that one tick works after a campaign was applied. A higher value holds "
            "the campaign's lock for longer."
        ),
    )
