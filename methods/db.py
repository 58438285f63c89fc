"""DB: the distribution-balanced loss without the focal factor."""

from __future__ import annotations

from benchmark.method import METHODS
from methods.db_focal import DBConfig, DBMethod


class DBWithoutFocalConfig(DBConfig):
    """Configuration of `db`: the repository halves the loss where it leaves the focal factor 2 (1 - p_t)^2 out."""

    loss_weight: float = 0.5


@METHODS.register("db")
class DB(DBMethod):
    """`DistributionBalancedLoss` with focal=False; class-aware sampling."""

    title = "DB"
    Config = DBWithoutFocalConfig
    focal = False
