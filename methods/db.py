"""DB: the distribution-balanced loss without the focal factor."""

from __future__ import annotations

from pydantic import Field

from benchmark.method import METHODS
from benchmark.spec import Positive

from .db_focal import DBConfig, DBMethod


class DBWithoutFocalConfig(DBConfig):
    """Configuration of `db`: half of `db-focal`'s weight, as in the reference runs without the focal factor (LMPT)."""

    loss_weight: Positive = Field(0.5, description="factor on the loss")


@METHODS.register("db")
class DB(DBMethod):
    """`DistributionBalancedLoss` with focal=False; class-aware sampling."""

    title = "DB"
    Config = DBWithoutFocalConfig
    focal = False
