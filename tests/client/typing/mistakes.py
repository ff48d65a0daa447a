"""Mistakes that type checkers must find, one in each line with a mark. Nothing here is run."""

from statecast.client import Client

client = Client("localhost:50051")
session = client.session("meter-3")

session.observe("hello")  # mistake
session.observe(["a", "b"])  # mistake
session.observe(None)  # mistake
session.observe([1.0], start_time="2024-03-01")  # mistake
session.forecast("24")  # mistake
session.step([1.0], horizon=None)  # mistake
client.observe_many([(session, "hello")])  # mistake
client.session("a", time_to_live="1d")  # mistake
Client("localhost:50051", api_key=b"sck_...")  # mistake
Client("localhost:50051", token="sck_...")  # mistake
Client("localhost:50051", token=lambda: None)  # mistake
Client("localhost:50051", tls="yes")  # mistake
