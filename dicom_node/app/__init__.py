"""Composition root: builds and connects everything from the settings, and runs the node's processes.

`serve` listens in this process and starts the others, such as `work` (models) and `deliver`; they may run by themselves too,
on several machines that share a database and the data folder. A process that dies is replaced; nothing it held is lost,
because jobs are leased, not removed. Models and torch never load in the listening process.
"""

from dicom_node.app.common import check_models as check_models
from dicom_node.app.common import installation_uid as installation_uid
from dicom_node.app.common import live_routes as live_routes
from dicom_node.app.common import open_database as open_database
from dicom_node.app.common import open_files as open_files
from dicom_node.app.common import routes_of as routes_of
