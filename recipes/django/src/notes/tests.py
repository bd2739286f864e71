import tempfile

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import TestCase, override_settings


class Notes(TestCase):
    def test_a_note_and_its_attachment_come_back(self):
        with tempfile.TemporaryDirectory() as place, override_settings(MEDIA_ROOT=place):
            file = SimpleUploadedFile("a.txt", b"attached")
            made = self.client.post("/", {"text": "<first>", "attachment": file})
            self.assertEqual(made.status_code, 201)
            self.assertContains(self.client.get("/"), "&lt;first&gt;")
            number = made.json()["number"]
            answer = self.client.get("/notes/%d/attachment" % number)
            self.assertEqual(b"".join(answer.streaming_content), b"attached")
